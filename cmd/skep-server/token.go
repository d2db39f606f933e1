package main

import (
	"errors"
	"fmt"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

func tokenCommand() *cli.Command {
	return &cli.Command{
		Name: "token", Usage: "Make, list and revoke tokens for the API",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "Make a token and print it, once", ArgsUsage: "NAME",
				Description: "Scopes: " + scopes() + ".\n\nExample:\n   skep-server token create --scope read --scope deploy --expires 2160h ci",
				Flags: append(databaseFlags(),
					&cli.StringSliceFlag{Name: "scope", Usage: "what it may do; may be repeated"},
					&cli.DurationFlag{Name: "expires", Usage: "how long it is good, as in 2160h; 0 for ever"}),
				Action: createToken,
			},
			{
				Name: "list", Usage: "List tokens", Flags: databaseFlags(), Action: listTokens,
				Description: "Example:\n   skep-server token list",
			},
			{
				Name: "revoke", Usage: "End a token", ArgsUsage: "NAME", Flags: databaseFlags(), Action: revokeToken,
				Description: "Example:\n   skep-server token revoke ci",
			},
		},
	}
}

func scopes() string {
	var names []string
	for _, s := range controlplane.Scopes {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

// who is the person at this terminal, for the audit.
func who() string {
	if u, err := user.Current(); err == nil {
		return "host/" + u.Username
	}
	return "host"
}

// withToken opens the store for a command about a named token.
func withToken(c *cli.Context, action string, f func(*store.Store, controlplane.Name) error) error {
	if c.NArg() != 1 {
		return usage("token %s takes one name: see skep-server token %[1]s --help", c.Command.Name)
	}
	name, err := controlplane.ParseName(c.Args().First())
	if err != nil {
		return usageError{err}
	}
	s, err := openStore(c)
	if err != nil {
		return err
	}
	defer s.Close()
	err = f(s, name)
	switch {
	case errors.Is(err, controlplane.ErrConflict):
		err = fmt.Errorf("%w: take another name", err)
	case errors.Is(err, controlplane.ErrNotFound):
		err = fmt.Errorf("%w: skep-server token list shows those that there are", err)
	}
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	return errors.Join(err, s.Audit(c.Context, controlplane.Audit{Actor: who(), Action: action, Target: string(name), Outcome: outcome}))
}

func createToken(c *cli.Context) error {
	var may []controlplane.Scope
	for _, s := range c.StringSlice("scope") {
		scope, err := controlplane.ParseScope(s)
		if err != nil {
			return usageError{err}
		}
		may = append(may, scope)
	}
	if len(may) == 0 {
		return usage("what may the token do? Name a --scope: %s", scopes())
	}
	life := c.Duration("expires")
	if life < 0 {
		return usage("a token that expires after %s is of no use: --expires takes a time to come, as in 2160h", life)
	}
	return withToken(c, "token.create", func(s *store.Store, name controlplane.Name) error {
		var expires time.Time
		if life > 0 {
			expires = time.Now().Add(life)
		}
		text, _, err := s.CreateToken(c.Context, name, may, expires)
		if err != nil {
			return err
		}
		defer text.Wipe()
		shown, err := text.Bytes()
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.App.Writer, "%s\n", shown)
		return err
	})
}

func revokeToken(c *cli.Context) error {
	return withToken(c, "token.revoke", func(s *store.Store, name controlplane.Name) error { return s.RevokeToken(c.Context, name) })
}

func listTokens(c *cli.Context) error {
	s, err := openStore(c)
	if err != nil {
		return err
	}
	defer s.Close()
	out := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "NAME\tSCOPES\tCREATED\tEXPIRES\tLAST USED\tREVOKED")
	for page := (store.Page{}); ; {
		tokens, next, err := s.ListTokens(c.Context, page)
		if err != nil {
			return err
		}
		for _, t := range tokens {
			fmt.Fprintf(out, "%s\t%v\t%s\t%s\t%s\t%s\n", t.Name, t.Scopes, date(t.Created), date(t.Expires), date(t.Used), date(t.Revoked))
		}
		if page.Before = next; next == 0 {
			return out.Flush()
		}
	}
}

func date(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format(time.DateOnly)
}
