"""The graders of OpenAI's fine-tuning API, one file per kind: JSON in, a reward with error flags out."""
