//go:build !linux

package main

// inotify is a matter of Linux.
func inotify() string { return "" }
