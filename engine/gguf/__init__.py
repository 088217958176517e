"""Export of models to GGUF, the format of llama.cpp; each file is read back and compared before it is published."""
