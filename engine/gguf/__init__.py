"""Models as GGUF files, which llama.cpp and its kin run: written from a model's folder, and read back before they count."""
