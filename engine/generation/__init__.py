"""Generation: answers written token by token, greedily, by sampling or by beam search."""
