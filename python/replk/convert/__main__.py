import sys

from replk.convert import main

sys.exit(main())
