"""The engine as a process: started, reached, commanded, watched."""
