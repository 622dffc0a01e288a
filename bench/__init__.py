"""The benchmark: how much faster than the best peer each network of the zoo is, held against what was asked for."""
