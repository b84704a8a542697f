"""An application whose tools leave a trace of every run, so that a second one is seen."""
