"""The article's figures, claimed beside measured (claims), and the speed of this machine (speed)."""
