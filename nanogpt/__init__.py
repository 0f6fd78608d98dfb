"""What is researched: plain scripts that know nothing of the loop around them."""
