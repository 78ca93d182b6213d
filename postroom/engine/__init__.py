"""The engine: claims what is ready, keeps the caps, delivers, settles, and survives its own death."""
