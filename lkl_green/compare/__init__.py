"""Running one program under several designs, and comparing what happens."""
