"""The program generator: random typed programs, run and labelled; a pure function from a number to a program."""
