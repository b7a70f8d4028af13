"""The self-test: real processes, random faults, and at the end the account, which has to add up."""
