"""Training on other machines: what one is told, the program that runs there, how results come back."""
