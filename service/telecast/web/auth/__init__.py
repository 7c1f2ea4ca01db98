"""Who asks: keys and their addresses in `credentials`, browsers' tickets and sessions in `cookies`.

A request comes in, a principal or a refusal comes out.
"""
