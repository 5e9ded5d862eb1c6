"""The event stores, behind one interface, and the one that this portal uses."""
