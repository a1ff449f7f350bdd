package main
import "context"
func (b *bench) containers(ctx context.Context) error { return nil }
