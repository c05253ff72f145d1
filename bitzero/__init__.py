"""BitZero: reasoners that teach themselves, at 1.58 bits, from nothing, on one desktop GPU."""
