"""Score every weight of a backbone, and summarize the scores by layer, attention head and weight grid."""
