"""Standard Webhooks: what is said (events), how it is signed (signing), sent (sender) and received (receiver)."""
