"""What several rooms of nodes/ need from ComfyUI: link types, pictures, folders of runs, progress, metadata, checks of
inputs, reviews.
"""
