"""Training on other machines: what a machine is told, the program that runs there, and how results come back."""
