"""Programs whose number of Mazurkiewicz traces is known: what partial order reduction has to count, exactly."""
