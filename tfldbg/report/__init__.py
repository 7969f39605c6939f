"""From a result to something a person or a program reads."""
