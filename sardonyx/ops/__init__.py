"""What each operator means to the compiler, one family a file."""
