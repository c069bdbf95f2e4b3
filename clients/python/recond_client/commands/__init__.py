"""The commands of the SDK. Each is a module of its own, loaded when it is used."""
