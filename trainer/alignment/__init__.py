"""What the stages after SFT share: answers as packed rows, and the bound on how far a policy may drift."""
