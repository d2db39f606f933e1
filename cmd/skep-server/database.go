package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"context"

	"github.com/urfave/cli/v2"

	"skep/services/controlplane/store"
)

func databaseFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "database", Usage: "`URL` of the PostgreSQL database, or that in SKEP_DATABASE_URL_FILE", EnvVars: []string{"SKEP_DATABASE_URL"}, DefaultText: "none"},
		&cli.StringFlag{Name: "key-file", Usage: "`FILE` with the key of the secrets in it, 64 hexadecimal digits", EnvVars: []string{"SKEP_DATABASE_KEY_FILE"}},
	}
}

// settings are a database's address and keys.
type settings struct {
	url, key string
}

func database(c *cli.Context) (settings, error) {
	s := settings{url: c.String("database")}
	if s.url == "" {
		if file := os.Getenv("SKEP_DATABASE_URL_FILE"); file != "" {
			content, err := os.ReadFile(file)
			if err != nil {
				return settings{}, fmt.Errorf("read SKEP_DATABASE_URL_FILE: %w", err)
			}
			s.url = strings.TrimSpace(string(content))
		}
	}
	if s.url == "" {
		return settings{}, usage("which database? Set SKEP_DATABASE_URL, as in postgres://skep@/skep?host=/run/postgresql")
	}
	return s, nil
}

func (s *settings) readKey(c *cli.Context) (store.Keys, error) {
	s.key = os.Getenv("SKEP_DATABASE_KEY")
	if file := c.String("key-file"); file != "" {
		content, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			return store.Keys{}, fmt.Errorf("there is no key file %s: make one with openssl rand -hex 32 > %[1]s, and keep it: without it the secrets are lost", file)
		}
		if err != nil {
			return store.Keys{}, fmt.Errorf("read the key file: %w", err)
		}
		s.key = string(content)
	}
	if s.key == "" {
		return store.Keys{}, usage("which key encrypts the secrets? Name a file with SKEP_DATABASE_KEY_FILE; openssl rand -hex 32 makes one")
	}
	return store.ParseKeys([]byte(s.key))
}

func (s settings) migrate(ctx context.Context) error { return store.Migrate(ctx, s.url) }

func openStore(c *cli.Context) (*store.Store, error) {
	s, err := database(c)
	if err != nil {
		return nil, err
	}
	keys, err := s.readKey(c)
	if err != nil {
		return nil, err
	}
	return store.Open(c.Context, s.url, keys)
}
