"""
OKX: channels of the v5 public WebSocket.

https://www.okx.com/docs-v5/en/#overview-websocket
"""
