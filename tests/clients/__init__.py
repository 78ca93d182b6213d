"""Other people's mail software against ours: clients that submit, a relay as the next hop."""
