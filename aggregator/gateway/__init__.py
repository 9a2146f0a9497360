"""The clients' side: HTTP, WebSocket sessions, and what each still has to be sent."""
