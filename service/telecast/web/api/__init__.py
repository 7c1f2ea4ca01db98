"""The REST calls, a module for each group of paths in `web/routes.py`.

Requests come in whose sender is known; each handler answers in the envelope of `front/answers`.
"""
