"""What machines read: OpenAPI, AsyncAPI, TypeScript and Python types, and the page `/docs`.

All of it is made from the catalogue, the schemas, the errors and the routes; nothing is kept here
twice. Channels and calls come in as values. It may import `channels`, `protocol` and below.
"""
