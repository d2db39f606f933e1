package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"skep/services/controlplane/engine/hatchet"
)

func hatchetCommand() *cli.Command {
	return &cli.Command{
		Name: "hatchet", Usage: "Set up a workflow engine that is a service of its own",
		Description: "serve runs an engine by itself; this is for one elsewhere, as in a Swarm.",
		Subcommands: []*cli.Command{
			{
				Name: "credentials", Usage: "Make the engine's keys and the token that it takes", ArgsUsage: "FOLDER",
				Description: "Writes a file for each, named as the fields of the item in 1Password that the catalogue's\n" +
					"stack asks for. No engine is needed; prepare makes the token good.\n\n" +
					"Example:\n   skep-server hatchet credentials --url https://hatchet.admin.example.com:8443 hatchet",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "url", Usage: "`URL` that the engine has as SERVER_URL"},
					&cli.StringFlag{Name: "address", Usage: "`HOST:PORT` that the engine has as SERVER_GRPC_BROADCAST_ADDRESS", Value: "hatchet-engine:7070"},
				},
				Action: hatchetCredentials,
			},
			{
				Name: "prepare", Usage: "Bring the engine's database to this version",
				Description: "Migrates it, and makes the token of credentials good. It may be run again. Its settings are\n" +
					"SKEP_HATCHET_DATABASE_URL and SKEP_HATCHET_TOKEN, or files in variables that end in _FILE.\n\n" +
					"Example:\n   skep-server hatchet prepare",
				Action: hatchetPrepare,
			},
		},
	}
}

func hatchetCredentials(c *cli.Context) error {
	if c.NArg() != 1 || c.String("url") == "" {
		return usage("hatchet credentials takes --url and a folder: skep-server hatchet credentials --url https://hatchet.example.com hatchet")
	}
	made, err := hatchet.NewCredentials(c.Context, c.String("url"), c.String("address"))
	if err != nil {
		return err
	}
	folder := c.Args().First()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for _, f := range []struct{ name, content string }{
		{"master-keyset", made.Master}, {"jwt-private-keyset", made.PrivateJWT}, {"jwt-public-keyset", made.PublicJWT},
		{"cookie-secrets", made.Cookies}, {"token", made.Token},
	} {
		if err := writeNew(filepath.Join(folder, f.name), f.content); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.App.Writer, "The credentials are in %s: put them into the store of secrets, and remove the folder.\n", folder)
	return nil
}

// writeNew writes a file for this user's eyes, and none that is there.
func writeNew(name, content string) (err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%s is there already: an engine that has these credentials takes no others", name)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(content)
	return errors.Join(err, f.Close())
}

func hatchetPrepare(c *cli.Context) error {
	database, err := fromFile("SKEP_HATCHET_DATABASE_URL")
	if err != nil {
		return err
	}
	token, err := fromFile("SKEP_HATCHET_TOKEN")
	if err != nil {
		return err
	}
	out := c.App.Writer
	if err := hatchet.Prepare(c.Context, database, token); err != nil {
		return err
	}
	fmt.Fprintln(out, "The workflow engine's database is at this version.")
	return nil
}

// fromFile is a setting, or what the file holds that name_FILE names.
func fromFile(name string) (string, error) {
	if v := os.Getenv(name); v != "" {
		return v, nil
	}
	file := os.Getenv(name + "_FILE")
	if file == "" {
		return "", usage("%s is not set, nor is %[1]s_FILE", name)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read %s_FILE: %w", name, err)
	}
	return strings.TrimSpace(string(content)), nil
}
