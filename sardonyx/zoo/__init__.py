"""Models and pictures to try things on, fetched by hash or shipped."""
