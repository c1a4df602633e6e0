"""What users ask of what is served: kept requests, feedback on answers, whether they are still what the test split was."""
