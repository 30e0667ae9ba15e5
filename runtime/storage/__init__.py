"""Where files lie: this machine, or an object store. Writes are whole or did not happen."""
