// Command liverec records live streams, sends them away while they are still growing, proves every copy, and only then
// frees the disk.
//
// It owns arguments, environment, exit statuses, the order of start and stop, and the wiring of the stages. It never
// does any of the stages' work.
package main

import (
	"os"
	_ "time/tzdata" // a container without a time zone database still names parts in the right one
)

func main() {
	os.Exit(Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
}
