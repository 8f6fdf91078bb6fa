// Connects by the URL that it is given, and asks one question, as a program with Go's lib/pq does.
package main

import (
	"database/sql"
	"fmt"
	"os"

	_ "github.com/lib/pq"
)

func main() {
	database, err := sql.Open("postgres", os.Args[1])
	var one int
	if err == nil {
		err = database.QueryRow("select 1").Scan(&one)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(one)
}
