"""One file a method, behind one interface; files whose name begins with _ are shared by several."""
