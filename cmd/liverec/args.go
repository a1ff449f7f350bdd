package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// usageError is something that a person typed wrong: exit status 2 and one line.
type usageError struct{ msg string }

func (e *usageError) Error() string { return e.msg }

func usagef(format string, a ...any) error {
	return &usageError{fmt.Sprintf(format, a...)}
}

// sortArgs brings the arguments into the order that the library understands: command, flags, then everything else.
// Left alone it silently takes a flag behind the URL for an argument. A flag that the command does not have is refused
// here, by name.
func sortArgs(app *cli.App, args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, nil
	}
	name, rest := args[0], args[1:]
	all := append(slices.Clone(app.Flags), cli.HelpFlag, cli.VersionFlag)
	for _, c := range app.Commands {
		all = append(all, c.Flags...)
	}
	// The command is the first word that is not a flag and not the value of one.
	var cmd *cli.Command
	at := -1
	for i := 0; i < len(rest) && at < 0; i++ {
		a := rest[i]
		switch {
		case a == "--":
			return args, usagef("no command stands before --; `liverec help` lists the commands")
		case !isFlag(a):
			at = i
		default:
			if f := lookup(all, a); f != nil && takesValue(f) && !strings.Contains(a, "=") {
				i++
			}
		}
	}
	if at < 0 {
		return args, nil // liverec --help and the like
	}
	if rest[at] == "help" || rest[at] == "h" {
		return append([]string{name, "help"}, append(slices.Clone(rest[:at]), rest[at+1:]...)...), nil
	}
	if cmd = app.Command(rest[at]); cmd == nil {
		return args, usagef("%q is not a command; `liverec help` lists the commands", clip(rest[at]))
	}
	out := []string{name, cmd.Name}
	have := append(slices.Clone(cmd.Flags), cli.HelpFlag)
	if len(cmd.Subcommands) > 0 {
		for _, sub := range cmd.Subcommands {
			have = append(have, sub.Flags...)
		}
	}
	var flags, words []string
	words = append(words, rest[:0]...)
	for i := 0; i < len(rest); i++ {
		a := rest[i]
		switch {
		case i == at:
		case a == "--":
			words = append(words, rest[i+1:]...)
			i = len(rest)
		case !isFlag(a):
			words = append(words, a)
		default:
			f := lookup(have, a)
			if f == nil {
				return nil, usagef("%s is not a flag of `liverec %s`; `liverec %s --help` lists them", clip(a), cmd.Name, cmd.Name)
			}
			flags = append(flags, a)
			if takesValue(f) && !strings.Contains(a, "=") {
				if i+1 >= len(rest) {
					return nil, usagef("%s: a value must follow, such as %s", clip(a), example(f))
				}
				i++
				flags = append(flags, rest[i])
			}
		}
	}
	out = append(out, flags...)
	if len(words) > 0 {
		out = append(append(out, "--"), words...)
	}
	return out, nil
}

func isFlag(a string) bool { return len(a) > 1 && a[0] == '-' }

func lookup(flags []cli.Flag, arg string) cli.Flag {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}

func example(f cli.Flag) string {
	if d, ok := f.(cli.DocGenerationFlag); ok && d.GetValue() != "" {
		return "--" + f.Names()[0] + " " + d.GetValue()
	}
	return "--" + f.Names()[0] + " VALUE"
}

// clip keeps what somebody typed to one short line.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > 80 {
		return string(r[:77]) + "..."
	}
	return s
}
