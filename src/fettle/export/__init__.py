"""What was tuned, in the formats that other tools read: PEFT adapter, merged safetensors, GGUF."""
