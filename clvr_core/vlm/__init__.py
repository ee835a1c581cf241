"""Vision-language models: in this process or behind a server, their replies parsed and their yes/no answers as
probabilities.
"""
