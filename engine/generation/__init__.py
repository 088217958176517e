"""Text generation.

`generate` decodes greedily or by sampling, `beams` by beam search. Both hold a batch that prompts may join between two
steps: its sequences and their key/value cache are a `texts.Texts`, and each answer has a `writer.Writer`.
"""
