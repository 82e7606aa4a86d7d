"""One file a method, behind one interface."""
