# meshshim: see README.md. V=1 shows commands.
BUILD ?= build
all:
