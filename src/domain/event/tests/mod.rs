mod traps;
