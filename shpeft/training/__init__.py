"""Train the selected weights and the head, with a checkpoint after every epoch."""
