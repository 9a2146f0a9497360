"""What the daemon says of itself: logs, metrics, and its state to systemd."""
