"""One paper a file: its inference procedure and the maths that training and inference share."""
