"""The samples with the largest error, operator by operator."""
