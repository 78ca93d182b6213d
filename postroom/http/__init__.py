"""What every HTTP surface shares: choosing the application, keys, limits, strict JSON, paging, the server.

Nothing here knows a dialect: each is an ASGI application of its own, with its own error answers.
"""
