"""Judging: may a candidate train, may a training go on, can its number be believed, is it better, is it time
to stop. Pure functions of data, without input or output."""
